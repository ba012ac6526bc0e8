"""Training: a network lifted to Pyro, a guide, an ELBO, and Lightning to fit them."""
