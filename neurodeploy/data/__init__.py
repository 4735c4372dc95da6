"""Data sets: from a user's files to batches of integers, and to what a simulator reads."""

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
    training_batches as training_batches,
)
from neurodeploy.data.in_memory import ArrayDataset as ArrayDataset, check_arrays as check_arrays
from neurodeploy.data.loading import load_data as load_data
from neurodeploy.data.stored import StoredDataset as StoredDataset
