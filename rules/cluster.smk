# Cells as jobs on other machines (profiles/slurm, docs/cluster.md). All other rules run where Snakemake was started.
snakemake_internals.run_here(workflow, but=session.MEASURING)
