"""Training: losses, schedules, checkpoints and the trainer.

In reading order:

    trainer      the loop over epochs and iterations, resumable to the bit
    losses       cross-entropy, temporal efficient training, shortcut branches
    schedules    learning rate, branch weight and pruned weights over the iterations
    evaluation   accuracy, loss and spike rates on a data set
    checkpoints  records of epochs, and the files to resume from
    engine       processes, devices and precision
    branched_module  shortcut branches on modules of other frameworks
"""
