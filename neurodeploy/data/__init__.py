"""Data sets: from a user's files to batches of integers, and to the input of a simulator.

In reading order:

    loading       the data of a recipe, in three parts; the digits, and NumPy archives
    dataset       the protocol of a data set, arrays as one, their split and batches
    stored        published sets as bytes, encoded batch by batch
    images        published image sets, through torchvision
    event_frames  published event sets, through tonic
    sequences     sets of sequences that installed packages carry
    recipe_draft  a first recipe for a file of one's own samples
    augmentation  random changes of training samples
"""

from neurodeploy.data.augmentation import draw_moves as draw_moves, move_images as move_images
from neurodeploy.data.dataset import (
    ArrayDataset as ArrayDataset,
    Dataset as Dataset,
    Part as Part,
    batches as batches,
    count_batches as count_batches,
    range_of as range_of,
    require_samples as require_samples,
    smallest_part as smallest_part,
    training_batches as training_batches,
)
from neurodeploy.data.loading import load_data as load_data
from neurodeploy.data.stored import StoredDataset as StoredDataset
