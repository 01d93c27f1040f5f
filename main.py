"""Trains as a config says: `python main.py --config=configs/digits.py` is `mixer_jax train --config=...`."""

import sys

if __name__ == "__main__":  # the processes that a run starts import this file too
    from mixer_jax.__main__ import main

    main([sys.argv[0], "train", *sys.argv[1:]], program="main.py")
