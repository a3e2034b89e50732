"""Compiled loops that read stored numbers and write merged ones in one go through memory.

A chain of torch operations moves every number to memory and back once per operation. These loops
work on blocks that stay in the first cache, on numbers as they lie in the file, and give the very
bits of the torch operations of the methods that use them. numba compiles them at their first use
and keeps the machine code on disk until a file of this room changes. Importing a file of this room
imports numba: methods do so only when the engine asks for a loop.

Stored numbers come as `[operand, element]`: fp32, or bit patterns of bf16 (uint16) or fp16 (int16).
"""
