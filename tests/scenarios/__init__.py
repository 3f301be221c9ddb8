"""What a team goes through, scripted: `make scenarios` runs these, `make test` does not."""
