"""What a message costs as something grows: routes, topics, payloads, a backlog, messages in flight.

Each curve changes one thing and nothing else. `curves` lists them; start reading there. `load` makes the
traffic, `drained` measures one point of most curves, `missing` and `on_disk` those of the other two.
`figures` keeps the results as JSON, from which `page` makes tables and pictures.
"""
