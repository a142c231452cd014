"""z and F: the encoder, the field, and the files of weights that make them."""
