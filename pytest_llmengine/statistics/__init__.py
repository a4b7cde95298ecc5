"""Statistical tests and intervals with known error rates, as pure functions of plain values."""

from pytest_llmengine.statistics.groups import furthest_group, furthest_third, group_test
from pytest_llmengine.statistics.looks import LookHistory, Reference
from pytest_llmengine.statistics.percentiles import Percentile, percentile
from pytest_llmengine.statistics.power import (
    fewest_changed,
    fewest_changed_prompts,
    first_found,
    smallest_rate,
    smallest_shift,
)
from pytest_llmengine.statistics.two_sample import (
    DRAWS,
    ROUNDING,
    PermutationResult,
    Stratum,
    energy_distance,
    holm,
    logprob_distance,
    permutation_test,
    stratum_of,
    value_distance,
)

__all__ = [
    "DRAWS",
    "ROUNDING",
    "LookHistory",
    "Percentile",
    "PermutationResult",
    "Reference",
    "Stratum",
    "energy_distance",
    "fewest_changed",
    "fewest_changed_prompts",
    "first_found",
    "furthest_group",
    "furthest_third",
    "group_test",
    "holm",
    "logprob_distance",
    "percentile",
    "permutation_test",
    "smallest_rate",
    "smallest_shift",
    "stratum_of",
    "value_distance",
]
