"""A token mixer, a block and a track for vitnas."""
