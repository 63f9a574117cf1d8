"""Lanes: vLLM processes that take turns in one comparison, each with the ordinary experiment inside.

    Lane, Program          lane.py       one lane: its process, what it measures, the run that it waits for
    Driver                 driver.py     all lanes in turns -> one results folder
    measure                ab.py         two versions of a package in turns, and the verdict
    measure                peers.py      other KV connectors beside ours
    resolve, snapshot      versions.py   a git ref or a folder -> files that nobody changes any more
    prepare                environment.py   those files -> a light environment that shares vLLM with ours -> a program
    Worker                 process.py    the driver's hold on the process of one lane
    main                   worker.py     runs in that process: the ordinary experiment, waiting for its turns
    Combiner, LaneRows     combine.py    what the lanes wrote -> one measurement

Driver and worker may be of different versions: what they share is protocol.py and the results schema.
"""
