"""What F learns from: generated and own label maps as training cases, and points of them."""
