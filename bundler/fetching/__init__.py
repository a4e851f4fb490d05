"""Downloads in their parts: who may write, what is on the disk, what an answer means, and reading along."""
