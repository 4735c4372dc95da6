"""From a trained network to a verified netx file, step by step."""
