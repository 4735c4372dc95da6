"""Reports: what counts and energies say, as data, text, JSON and pages."""
