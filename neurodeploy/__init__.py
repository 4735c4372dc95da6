"""neurodeploy: train spiking networks in torch and prove that what was trained is what runs."""

__version__ = "0.1.0"
