"""A first model in PyMC: the coin of `first_pyro.py` again, by NUTS and by ADVI.

PyMC writes the same model in another way: not a function that runs, but a block in which named random
variables are laid down, from which PyMC compiles the log-density and its gradient. Its two algorithms are the
same two:

- `pm.sample` runs NUTS, which should land on the exact posterior;
- ADVI is variational inference with a Normal guide, which should land on the best Normal.

    python examples/first_pymc.py
"""

import numpy as np
import pymc as pm
from coin import PRIOR_MEAN, PRIOR_SD, TOSSES, Numbers, best_normal, densities, exact, of_draws, of_iterates
from shown import Estimate, options, save, show_estimates

CHAINS = 4


def coin_model() -> pm.Model:
    """The log-odds z of heads, and the tosses given z."""
    with pm.Model() as model:
        z = pm.Normal("z", PRIOR_MEAN, PRIOR_SD)
        pm.Bernoulli("y", logit_p=z, observed=np.array(TOSSES))
    return model


def run_nuts(draws: int, seed: int) -> Numbers:
    """NUTS: chains of draws of z, (chains, draws), each after a warm-up, half as long, to tune its steps."""
    with coin_model():
        found = pm.sample(draws, tune=draws // 2, chains=CHAINS, cores=1, random_seed=seed)
    return np.asarray(found["posterior"]["z"])


def fit_advi(steps: int, seed: int) -> Estimate:
    """ADVI: gradient steps on noisy estimates of the ELBO; the second half of them is averaged.

    The tracker writes down the guide's mean and sd after each step. PyMC's ADVI estimates the KL term from
    the draws too, so the mean is noisier than that of `first_pyro.py` after as many steps.
    """
    with coin_model():
        advi = pm.ADVI(random_seed=seed)
        tracker = pm.callbacks.Tracker(mean=advi.approx.mean.eval, sd=advi.approx.std.eval)
        advi.fit(steps, obj_n_mc=64, obj_optimizer=pm.adam(learning_rate=0.03), callbacks=[tracker])
    means, sds = (np.ravel(tracker.hist[name][steps // 2 :]) for name in ("mean", "sd"))
    return of_iterates("ADVI", means, sds)


def main() -> None:
    """Fits both ways and shows them beside the known values."""
    chosen = options("A coin's posterior in PyMC, by NUTS and ADVI, beside the exact one.")
    advi = fit_advi(200 if chosen.tiny else 4000, chosen.seed)
    draws = run_nuts(20 if chosen.tiny else 1000, chosen.seed)
    nuts = of_draws("NUTS", draws)
    show_estimates("Log-odds of heads: PyMC", (exact(), nuts, best_normal(), advi))
    save(densities(exact(), advi, draws, "NUTS"), chosen.out, "first_pymc")


if __name__ == "__main__":
    main()
