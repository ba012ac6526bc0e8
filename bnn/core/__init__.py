"""Tasks, networks, posteriors, the ensemble and the checkpoint: what every other room stands on."""
