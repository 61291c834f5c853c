"""Parts of benchmarks/search_replay.py."""
