"""What the DAG files share. Imports neither Spark nor torch: steps run as processes of their own."""
