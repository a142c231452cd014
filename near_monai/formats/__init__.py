"""Files on disk: label maps of every format, tensors and text, read strictly and written whole."""
