"""Methods whose coefficients are searched for on data: what they declare. `searching` runs them.

All give `W = W_0 + sum_i c_i D_i` with coefficients per expert and tensor, block or chunk, and
differ only in where the coefficients come from; `cma_es`, `bayes` and `evo_merging` also search the
settings of another method. A recipe names one under `method:` like any other, gives each model its
`data:`, and `omnicompose merge` first searches (a killed search goes on), then merges.
"""

from omnicompose.merging.method import MethodSpec, Parameter

OWN_PROMPTS = "prompts of every model's own (`data:`), no labels"
OWN_REPLIES = "prompts of every model's own (`data:`) with `reply`"
FITNESS = "`data:` with `reply`, or any callable or HTTP endpoint (`fitness`)"


def _count(name: str, default: int, description: str, least: int = 1) -> Parameter:
    return Parameter(name=name, default=default, description=description, minimum=least)


def _number(name: str, default: float, description: str, least: float = 0.0) -> Parameter:
    return Parameter(name=name, default=default, description=description, minimum=least)


def _steps(default: int) -> Parameter:
    return _count("steps", default, "of the optimizer", least=0)


def _rate(default: float) -> Parameter:
    return _number("learning_rate", default, "step size of the optimizer")


def _start(default: float) -> Parameter:
    return Parameter(
        name="start",
        default=default,
        description="every coefficient at first",
        minimum=0.0,
        maximum=1.0,
    )


TINY = 1e-3
"""Least of what is divided by."""
PER = Parameter(
    name="per",
    default="tensor",
    description="what has a coefficient of its own: each expert, or each of its tensors",
    choices=("expert", "tensor"),
)
DENSITY = Parameter(
    name="density",
    default=1.0,
    description="share of each delta's largest entries that is kept (AdaMerging++: 0.2)",
    minimum=0.0,
    maximum=1.0,
)
MATRICES = Parameter(
    name="only_matrices",
    default=True,
    description="norms, biases, embeddings and head stay at the base",
)
EVALUATIONS = _count("evaluations", 100, "candidates that are tried at most")
KNOTS = _count("knots", 1, "weights per expert over the depth")
INNER = Parameter(
    name="inner", default="task_arithmetic", description="the method whose settings are searched"
)
SETTINGS = Parameter(
    name="settings",
    default="",
    description="numeric settings of the inner method to search too, joined by commas",
)
FITNESS_OF = Parameter(
    name="fitness",
    default="likelihood",
    description="likelihood (of `reply`), `package.module:function`, or http://...; less is better",
)
SPREAD = _number("spread", 0.1667, "standard deviation of the first candidates", least=TINY)
EXPERT_MERGING = (
    _steps(50),
    _rate(0.5),
    _start(0.1),
    _number("hidden_weight", 1.0, "of the hidden states' distance"),
    _number("anchor_weight", 5.0, "of the distance from the start (gamma)"),
    _number("temperature", 1.0, "of the logits", least=TINY),
    MATRICES,
)


def _declare(
    name: str,
    summary: str,
    paper: str,
    data: str,
    parameters: tuple[Parameter, ...],
    arity: tuple[int, int | None] = (1, None),
) -> MethodSpec:
    return MethodSpec(
        name=name,
        summary=summary,
        formula="W = W_0 + sum_i c_i (W_i - W_0), c searched",
        paper=paper,
        needs_base=True,
        parameters=parameters,
        data=data,
        arity=arity,
        weighted=False,
        stochastic=True,
    )


_BLACK_BOX = (INNER, SETTINGS, KNOTS, EVALUATIONS, FITNESS_OF, SPREAD)
_ALL = (
    _declare(
        "adamerging",
        "Coefficients that make the next word most certain.",
        "2310.02575",
        OWN_PROMPTS,
        (
            PER,
            _steps(500),
            _rate(1e-3),
            _start(0.3),
            DENSITY,
            MATRICES,
            _count("batch_size", 16, "prompts in one step"),
        ),
    ),
    _declare(
        "expert_merging",
        "Coefficients that match every expert's hidden states and logits on its own prompts.",
        "2509.25712",
        OWN_PROMPTS,
        EXPERT_MERGING,
    ),
    _declare(
        "expert_merging_plus_plus",
        "Expert Merging with more coefficients in the blocks that matter more.",
        "2509.25712",
        OWN_PROMPTS,
        (
            *EXPERT_MERGING,
            _number("budget", 1.0, "chunks, in multiples of the number of tensors (B)"),
            _number("sharpness", 0.5, "exponent of the importance (kappa)"),
        ),
    ),
    _declare(
        "fw_merging",
        "Frank-Wolfe steps towards the expert that lowers the loss fastest.",
        "2503.12649",
        OWN_REPLIES,
        (
            Parameter(
                name="variant",
                default="hard",
                description="hard: from the mean, one expert a step; soft: from the base, one per "
                "model's data, mixed by adamerging",
                choices=("hard", "soft"),
            ),
            PER,
            _steps(10),
            _number("step_scale", 1.0, "factor on 2 / (t + 2)"),
            _count("inner_steps", 20, "adamerging steps of the soft variant", least=0),
            MATRICES,
        ),
    ),
    _declare(
        "adamms",
        "The mixing ratio of two models around which their answers change least.",
        "2503.23733",
        "prompts (`data:`), no labels; answers are generated",
        (
            _count("new_tokens", 16, "length of the answers"),
            Parameter(
                name="least",
                default=0.4,
                description="smallest share of the first model",
                minimum=0.0,
                maximum=1.0,
            ),
        ),
        arity=(2, 2),
    ),
    _declare(
        "es_merging",
        "Coefficients per block from how far each expert shifts activations.",
        "2603.14405",
        OWN_PROMPTS,
        (
            _number("others", 1.0, "weight of the shifts on other models' prompts (alpha)"),
            _number("temperature", 0.5, "of the softmax over experts", least=TINY),
            _count("projections", 1024, "directions of the sliced distance"),
        ),
    ),
    _declare(
        "evo_merging",
        "Black box: densities first, then signed weights, by CMA-ES.",
        "2509.12951",
        FITNESS,
        (
            _count("density_evaluations", 400, "candidates of the first stage"),
            _count("weight_evaluations", 1000, "candidates of the second stage"),
            _number("penalty", 0.05, "on the mean size of densities or weights"),
            FITNESS_OF,
            _number("spread", 0.05, "first standard deviation", least=TINY),
        ),
    ),
    _declare(
        "cma_es",
        "Weights and settings of any method by CMA-ES on any fitness.",
        "folklore",
        FITNESS,
        _BLACK_BOX,
    ),
    _declare(
        "bayes",
        "Weights and settings of any method by Bayesian optimisation on any fitness.",
        "folklore",
        FITNESS,
        _BLACK_BOX,
    ),
)

SEARCHED: dict[str, MethodSpec] = {spec.name: spec for spec in _ALL}
"""Name -> what it declares."""
