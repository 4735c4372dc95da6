"""Reports: counts and energies as data, JSON, sentences and pages.

In reading order:

- `report`: the report as data, and the summary of a run.
- `json_form`: its JSON form, and the schema of that.
- `report_builder`: a network and its recording to a report.
- `frame_figures`: what frames cost, where a network sends changes.
- `statements`: the conclusions of a report in sentences.
- `comparison`: several networks side by side, and their Pareto fronts.
- `advice`: advice on a model before any work: verdict, assumptions, doubts.
- `certificate`: a verification that others can check; `certified_facts`: its hashes and sizes.
- `activity`: rates, maps, membranes and spikes of a run.
- `numbers`: numbers as people read them.
- `plots`: the drawings of the pages.
- `pages`: the pages, as HTML and Markdown.
"""
