"""How a posterior is updated by images of one's own; nothing heavy is imported for it."""

from bnn.training.config import TrainConfig

# Chosen on one half of scikit-learn's digits, a third of it held out, and on MNIST's calibration digits.
UPDATE = TrainConfig(beta=0.3, kl_warmup=0.0, batch_size=64, lr=1e-3)
STEPS = 100  # of each component, about, whatever the number of images
HELD_OUT = 1 / 3  # share of the images that are not learnt from
