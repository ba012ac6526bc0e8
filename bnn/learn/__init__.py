"""Training: Pyro models and guides in a Lightning module."""
