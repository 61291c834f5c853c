"""Searchers that choose from all rows at once: `vitnas`, and BoTorch's qLogNEHVI."""

from __future__ import annotations

import numpy as np

from search.game import Game
from vitnas.studies.search.pool_searcher import PoolSearcher

START = 10
CANDIDATES = 512  # rows among which BoTorch's acquisition is maximised, drawn anew for every proposal
ITERATIONS = 50  # of a fit of BoTorch's models, which goes on from the last proposal's


def vitnas(game: Game, seed: int) -> None:
    """The default searcher over the distinct networks within the limit."""
    rows = np.array(sorted(game.left))
    table = game.table
    searcher = PoolSearcher(table.features[rows], table.cost[rows], counted=table.counted[rows], seed=seed)
    while asked := searcher.ask(1):
        row = game.train(int(rows[asked[0]]))
        searcher.tell(asked[0], game.values(row)[0])


def botorch(game: Game, seed: int) -> None:
    """qLogNEHVI (Ament et al. 2023) over CANDIDATES of the rows that are left. Plain, accuracy and cost are both learned; with free costs
    they are a further input, and the second objective is known."""
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.models.model import ModelList
    from botorch.optim import optimize_acqf_discrete
    from botorch.sampling.get_sampler import get_sampler
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cost = np.log(game.table.cost)
    cost = (cost - cost.min()) / np.ptp(cost)
    x_all = torch.tensor(np.column_stack([game.table.features, cost]) if game.free else game.table.features, dtype=torch.float64)
    trained: list[int] = []
    before: list[dict[str, torch.Tensor]] = []
    while True:
        left = np.array(sorted(game.left)) if game.free else np.arange(len(cost))
        if len(trained) < START:
            trained.append(game.train(int(rng.choice(left))))
            continue
        x = x_all[trained]
        y = torch.tensor(game.table.objective[trained], dtype=torch.float64)[:, None]
        y = (y - y.mean()) / y.std()
        gains = torch.tensor(-cost[trained], dtype=torch.float64)[:, None]
        models = [SingleTaskGP(x, y)] if game.free else [SingleTaskGP(x, y), SingleTaskGP(x, (gains - gains.mean()) / gains.std())]
        for model, state in zip(models, before, strict=False):  # a fit goes on from the last one's hyper-parameters
            model.load_state_dict(state | {k: v for k, v in model.state_dict().items() if k.startswith("outcome_transform")})
        for model in models:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs={"options": {"maxiter": ITERATIONS}})
        before = [model.state_dict() for model in models]
        known = GenericDeterministicModel(lambda z: -z[..., -1:], num_outputs=1)
        both = ModelList(models[0], known) if game.free else ModelListGP(*models)
        second = gains if game.free else (gains - gains.mean()) / gains.std()
        outcomes = torch.cat([y, second], dim=1)
        span = outcomes.max(dim=0).values - outcomes.min(dim=0).values
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            both,
            (outcomes.min(dim=0).values - 0.1 * span).tolist(),
            x,
            sampler=get_sampler(both.posterior(x[:1]), torch.Size([64]), seed=seed),
            prune_baseline=True,
            cache_root=not game.free,  # a known outcome has no covariance to keep
        )
        some = rng.choice(left, min(len(left), CANDIDATES), replace=False)
        best, _ = optimize_acqf_discrete(acquisition, q=1, choices=x_all[some])
        at = int(torch.where((x_all[some] == best[0]).all(dim=1))[0][0])
        trained.append(game.train(int(some[at])))
