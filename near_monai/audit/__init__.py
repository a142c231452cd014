"""Which labels of a set are bad, by shape alone."""
