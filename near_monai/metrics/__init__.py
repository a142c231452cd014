"""How well a mask agrees with the truth, per case and in tables."""
