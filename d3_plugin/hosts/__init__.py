"""What D³ knows of the generative code it is attached to.

How its generator is called goes through these files, each of which knows those before it:

- ``call_form``: a call, argument by argument. D³ makes calls from it, and says it in one line.
- ``loop_calls``: a hook notes the loop's own calls.
- ``loop_evidence``: what numbers look like: rows of which classes, in which form; which noise.
- ``loop_form``: from calls and evidence to the form of the loop's calls.
- ``generator_call``: calls the generator in that form; before it is known, in one that is guessed.
"""
