"""vitnas: neural-architecture ablations and search, from ResNet to ConvNeXt and beyond."""

__version__ = "0.1.0"
