"""A DICOM node: paired inspiratory/expiratory CT in, V/Q results out.

The journey, one line a step; each in its own module, joined by `node` and `worker`:

1. `receive`: an association -> the bytes of its instances -> a status
2. `archive`: bytes -> a durable file and its row
3. `index`, `headers`: a file -> what the node decides with, read in a process of its own
4. `studies`: what came of a study -> when to look at it, and what was decided
5. `series`: headers -> stacks in the order of space, or why not
6. `pairing`: two stacks -> a pair, or why not yet
7. `jobs`: a pair -> a job; one table of states and moves
8. `volumes`: a stack -> Hounsfield units; then `analysis`
9. `objects`: an analysis -> SEG, SR, captures, PDF, key objects; maps where asked for
10. `deliver`: objects -> destinations
11. `confirm`: what a destination stored -> what it commits to keep
12. `retention`: studies that have ended -> room, where the configuration says so

`commit` answers a scanner that asks what is kept here, `performed` one that says which images its study has; `audit`
tells of all that.
`retrieve` asks a PACS for a phase that is missing, `schedule` ticks, `database` remembers, `cli` is what a person
sees.
"""
