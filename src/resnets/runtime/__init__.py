"""Where and how a program runs: device, processes and terminal output.

`device` picks device, mixed precision and memory layout; `processes` wraps torch.distributed, and `shard` splits a
batch between processes; `console` prints messages and progress, and `formatting` formats counts and durations.
"""
