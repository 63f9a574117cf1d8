"""Two versions of a package side by side: each in an environment and a vLLM process of its own, runs in turns.

    resolve_side, snapshot      sides.py         a git ref or a folder -> files that nobody changes any more
    build                       environment.py   those files -> a light environment that shares vLLM with ours
    main                        worker.py        runs in that environment: the ordinary experiment, waiting for its turns
    Worker                      process.py       the driver's hold on one worker
    measure                     driver.py        both workers in turns -> one results folder with arms ARM@base and ARM@head
    Combiner, SideRows          combine.py, side_rows.py    what the sides wrote -> that folder
    judge                       judging.py       that folder and margins -> a verdict an arm

Driver and worker may be of different versions: what they share is protocol.py and the results schema.
"""
