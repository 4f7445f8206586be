"""What finds the plan: the space of widths on a device, the agents, and the record of every candidate.

Modules are imported by name (`search.trials`, `search.agents`), so that what reads a record does not load what
measures one.
"""
