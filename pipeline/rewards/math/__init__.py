"""Whether two answers of mathematics are the same. What is not exported here is private to the package."""

from pipeline.rewards.math.echo import is_echo
from pipeline.rewards.math.equality import fraction_of, same_answer, same_quickly
from pipeline.rewards.math.tokens import plain
from pipeline.rewards.math.tolerance import within

__all__ = ["fraction_of", "is_echo", "plain", "same_answer", "same_quickly", "within"]
