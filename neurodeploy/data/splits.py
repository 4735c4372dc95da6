"""Parts of a data set: stratified, and chosen by a seed alone."""

from __future__ import annotations

import numpy as np

from neurodeploy.data.dataset import Dataset
from neurodeploy.errors import DataError

TEST_SPLIT_SEED = 0
"""The test part is the same in every run, whatever the recipe's seed."""


def split(dataset: Dataset, fraction: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Split off a stratified share; scikit-learn's split, so that others can repeat it.

    Args:
        dataset: All samples.
        fraction: Of them, the second part's share, above 0 and below 1.
        seed: Chooses which.

    Raises:
        DataError: If a class has too few samples to be in both parts.
    """
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(
            np.arange(len(dataset)),
            test_size=fraction,
            stratify=dataset.labels,
            random_state=seed,
        )
    except ValueError as error:
        raise DataError(
            f"data: {len(dataset)} samples cannot be split, {fraction:g} of them aside ({error}). "
            "Every class needs samples in each part: add data or change the fractions."
        ) from error
    return dataset.subset(first), dataset.subset(second)
