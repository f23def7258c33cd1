"""Secure aggregation of whole numbers: the server learns the sum of the vectors of those who stayed, and nothing else.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning", for honest but curious servers:

    step       a member sends                                    and is told
    keys       two public keys                                   everybody's keys
    shares     shares of its two secrets, sealed for each other  the shares that are for it
    masked     its vector, masked twice, modulo 2^b              who has arrived
    unmask     of each member a share of one of the secrets

A member i adds, modulo 2^b, the stream of a secret of its own, b_i, and for every other member j that of a secret which both
can compute, with opposite signs, so that these cancel in the sum. Afterwards t members' shares give the b_i of those whose
vector has arrived, or the key of those whose vector has not, never both: a vector that comes late stays masked.

Both ends are state machines over bytes (`member.py`, `aggregation.py`): no socket, clock or file. docs/secure.md says against
whom this helps.
"""
