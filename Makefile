# Everything runs in .venv, which each target sets up from python3 and a package index; uv is used where it is found.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The corruptions' oracle in the tests. Its dependencies stand in the group dev, with an opencv that needs no screen.
ORACLE := imagecorruptions-imaug

.PHONY: help demo test check format slow bench docs clean

help:
	@echo "make demo    MNIST, a small CLIP and a small VQGAN: shards, three students and their table under runs/demo"
	@echo "make test    the tests"
	@echo "make check   ruff, strict types, import layers"
	@echo "make slow    the longer test campaigns"
	@echo "make bench   the speed benchmarks, and their table in benchmarks/README.md; wants an idle machine"
	@echo "make docs    the documentation as a site, under site/"

$(READY): pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
		test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
		uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev --editable '.[demo,s3]'; \
		uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --no-deps $(ORACLE); \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'; \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable '.[demo,s3]'; \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(ORACLE); \
	fi
	@touch $@

demo: $(READY)
	$(BIN)/python recipes/demo/mnist.py runs/demo/mnist
	$(BIN)/dad generate recipes/demo/generate.yaml --out runs/demo/dad
	$(BIN)/dad inspect runs/demo/dad --grid runs/demo/pictures.png
	$(BIN)/python recipes/demo/digits.py runs/demo/digits
	$(BIN)/dad sweep recipes/demo/students.yaml --out runs/demo/students
	$(BIN)/python recipes/demo/results.py runs/demo

test: $(READY)
	$(BIN)/pytest -q -n 2 --dist loadfile

slow: $(READY)
	$(BIN)/pytest -q -m slow

# One thread where a figure is "a core"; generation takes the cores that its recipe finds.
bench: $(READY)
	for script in writing_speed image_codecs reading_speed storage scale; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$script.py --out benchmarks/results/speed || exit 1; done
	for script in generation_speed training_speed; do \
		$(BIN)/python benchmarks/$$script.py --out benchmarks/results/speed || exit 1; done
	$(BIN)/python benchmarks/table.py

docs: $(READY)
	$(BIN)/python docs/recipe_fields.py
	$(BIN)/mkdocs build --strict

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs site
