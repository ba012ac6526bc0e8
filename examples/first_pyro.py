"""A first model in Pyro: a coin's posterior by variational inference and by NUTS, beside the exact one.

A Pyro model is a function that draws each unknown by name. Observing the tosses turns the function into a
posterior, and two algorithms approximate it:

- SVI picks a family of simple distributions, the guide (here: all Normals), and looks for the member that
  maximises the ELBO. Fast, but it can be no better than its family: it should land on the best Normal.
- NUTS walks through the posterior and collects draws. Slower, but right in the limit of many draws: it should
  land on the exact posterior.

    python examples/first_pyro.py
"""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from coin import PRIOR_MEAN, PRIOR_SD, TOSSES, Numbers, best_normal, densities, exact, of_draws, of_iterates
from pyro.distributions import constraints
from pyro.infer import MCMC, NUTS, SVI, TraceMeanField_ELBO
from pyro.optim import Adam
from rich.progress import track
from shown import Estimate, options, save, show_estimates
from torch import Tensor

CHAINS = 4


def model(tosses: Tensor) -> None:
    """The log-odds z of heads, and the tosses given z."""
    z = pyro.sample("z", dist.Normal(PRIOR_MEAN, PRIOR_SD))
    with pyro.plate("tosses", len(tosses)):
        pyro.sample("y", dist.Bernoulli(logits=z), obs=tosses)


def guide(tosses: Tensor) -> None:
    """Any Normal: its mean and sd are parameters to be learnt. It takes what the model takes."""
    mean = pyro.param("mean", torch.tensor(0.0))
    sd = pyro.param("sd", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(mean, sd))


def fit_svi(steps: int, seed: int) -> Estimate:
    """SVI: gradient steps on noisy estimates of the ELBO; the second half of them is averaged.

    `TraceMeanField_ELBO` takes the KL term in closed form, and each step averages over 64 draws of z:
    both cut the noise, and with it the steps that a good answer takes. The learning rate is a compromise:
    the larger, the sooner the jitter forgets itself, but the further its average lies off the optimum.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    tosses = torch.tensor(TOSSES)
    elbo = TraceMeanField_ELBO(num_particles=64, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(model, guide, Adam({"lr": 0.03}), elbo)
    iterates = []
    for _ in track(range(steps), description="SVI"):
        svi.step(tosses)
        iterates.append((pyro.param("mean").item(), pyro.param("sd").item()))
    means, sds = np.array(iterates[steps // 2 :]).T
    return of_iterates("SVI", means, sds)


def run_nuts(draws: int, seed: int) -> Numbers:
    """NUTS: chains of draws of z, (chains, draws), each after a warm-up, half as long, to tune its steps.

    The chains run one after the other, each from its own seed, so that every machine draws the same.
    `MCMC(num_chains=4)` would run them at once where there are cores for it, from other seeds.
    """
    return np.stack([_chain(draws, CHAINS * seed + chain) for chain in range(CHAINS)])


def _chain(draws: int, seed: int) -> Numbers:
    pyro.set_rng_seed(seed)
    mcmc = MCMC(NUTS(model), num_samples=draws, warmup_steps=draws // 2)
    mcmc.run(torch.tensor(TOSSES))
    return mcmc.get_samples()["z"].double().numpy()


def main() -> None:
    """Fits both ways and shows them beside the known values."""
    chosen = options("A coin's posterior in Pyro, by SVI and NUTS, beside the exact one.")
    svi = fit_svi(200 if chosen.tiny else 4000, chosen.seed)
    draws = run_nuts(20 if chosen.tiny else 1000, chosen.seed)
    nuts = of_draws("NUTS", draws)
    show_estimates("Log-odds of heads: Pyro", (exact(), nuts, best_normal(), svi))
    save(densities(exact(), svi, draws, "NUTS"), chosen.out, "first_pyro")


if __name__ == "__main__":
    main()
