"""Data sets: from a user's files to batches of integers, and to the input of a simulator.

In reading order:

    loading       the data of a recipe, in three parts
    dataset       the protocol of a data set, its split and its batches
    in_memory     the digits, and NumPy archives
    stored        data sets of bytes, encoded batch by batch
    images        published image sets, through torchvision
    event_frames  published event sets, through tonic
    augmentation  random changes of training samples
    packages      torchvision and tonic, imported where they are needed
"""

from neurodeploy.data.augmentation import (
    auto_augment as auto_augment,
    draw_moves as draw_moves,
    flip_images as flip_images,
    move_images as move_images,
    roll_images as roll_images,
    shift_images as shift_images,
)
from neurodeploy.data.dataset import (
    Dataset as Dataset,
    Part as Part,
    batches as batches,
    count_batches as count_batches,
    range_of as range_of,
    training_batches as training_batches,
)
from neurodeploy.data.in_memory import ArrayDataset as ArrayDataset, check_arrays as check_arrays
from neurodeploy.data.loading import load_data as load_data
from neurodeploy.data.stored import StoredDataset as StoredDataset
