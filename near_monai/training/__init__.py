"""How F learns: losses, handlers, checkpoints, and what its weights are in the end."""
