"""The torch side of the layers: one file an idea. `make` turns one layer of data into its module."""
