"""Parts of the benchmark of ablations; each has a `section()` of plain data and can be run alone."""
