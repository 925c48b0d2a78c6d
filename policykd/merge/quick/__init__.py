"""Quick merges: few labeled states, and a stop rule that does not trust the best of several short validations.

``collecting`` simulates all skills in one environment and labels the student's states after the rollout, ``scores``
reads the student's retention from these episodes, ``outlook`` estimates how much is left, and ``rounds`` runs the merge
until a test on new tracks confirms it.
"""
