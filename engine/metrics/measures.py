"""The metrics by name, as people see them. Imports nothing: the app needs the words before anything is computed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric."""

    words: str
    higher_is_better: bool = True
    points: bool = True
    """Whether it is a share, of which differences are told in points (hundredths)."""

    def difference(self, value: float) -> str:
        """A difference without its unit: a decimal of points, three decimals of other small numbers."""
        size = 100 * value if self.points else value
        if abs(size) >= 1e12:
            return f"{size:+.3g}"
        return f"{size:+.1f}" if self.points or abs(size) >= 10 else f"{size:+.3f}"


MEASURES: dict[str, Measure] = {
    "span_f1": Measure("span F1"),
    "token_accuracy": Measure("word acc."),
    "rmse": Measure("RMSE", higher_is_better=False, points=False),
    "mae": Measure("MAE", higher_is_better=False, points=False),
    "pearson": Measure("Pearson", points=False),
    "r2": Measure("R²", points=False),
    "accuracy": Measure("accuracy"),
    "micro_f1": Measure("micro-F1"),
    "macro_f1": Measure("macro-F1"),
    "exact_match": Measure("all right"),
    "chrf": Measure("chrF"),
    "exact_answer": Measure("exact match"),
    "reward_accuracy": Measure("reward acc."),
    "margin": Measure("margin", points=False),
    "perplexity": Measure("perplexity", higher_is_better=False, points=False),
    "loss": Measure("loss", higher_is_better=False, points=False),
}
"""In the order in which they are shown."""


def measures(*names: str) -> dict[str, Measure]:
    """Some of them, the most telling first."""
    return {name: MEASURES[name] for name in names}
