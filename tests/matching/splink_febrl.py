"""Links or deduplicates the files of FEBRL with Splink, and prints how many pairs it finds and how many of them are right.

Splink learns from the files themselves, without knowing which records are of one person.
"""

import json
import logging
import sys

import duckdb
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

logging.disable(logging.WARNING)
files = sys.argv[1:]
connection = duckdb.connect()
api = DuckDBAPI(connection=connection)
columns = "given_name surname street_number address_1 address_2 suburb postcode state date_of_birth".split()
cleaned = ", ".join(f"nullif(trim({name}), '') as {name}" for name in columns)


def read(file, index):
    table = f"febrl_{index}"
    connection.execute(
        f"create table {table} as select trim(rec_id) as unique_id, split_part(rec_id, '-', 2) as person, {cleaned} "
        f"from read_csv('{file}', all_varchar=true, normalize_names=true)"
    )
    return api.register(connection.table(table), dataset_display_name=f"file_{index}")


tables = [read(file, index) for index, file in enumerate(files)]
settings = SettingsCreator(
    link_type="dedupe_only" if len(tables) == 1 else "link_only",
    unique_id_column_name="unique_id",
    comparisons=[
        cl.NameComparison("given_name").configure(term_frequency_adjustments=True),
        cl.NameComparison("surname").configure(term_frequency_adjustments=True),
        cl.DamerauLevenshteinAtThresholds("date_of_birth", [1, 2]),
        cl.ExactMatch("street_number"),
        cl.JaroWinklerAtThresholds("address_1", [0.9, 0.7]),
        cl.JaroWinklerAtThresholds("address_2", [0.9, 0.7]),
        cl.JaroWinklerAtThresholds("suburb", [0.9]).configure(term_frequency_adjustments=True),
        cl.DamerauLevenshteinAtThresholds("postcode", [1, 2]),
        cl.ExactMatch("state"),
    ],
    blocking_rules_to_generate_predictions=[
        block_on("given_name", "surname"),
        block_on("date_of_birth"),
        block_on("address_1"),
        block_on("address_2", "suburb"),
        block_on("postcode", "street_number"),
        block_on("surname", "postcode"),
        block_on("given_name", "postcode"),
        block_on("suburb", "street_number"),
        "l.given_name = r.surname and l.surname = r.given_name",
    ],
    retain_intermediate_calculation_columns=False,
    additional_columns_to_retain=["person"],
)
linker = Linker(tables, settings)
linker.training.estimate_probability_two_random_records_match(
    [block_on("date_of_birth", "surname"), block_on("given_name", "surname", "postcode")], recall=0.8
)
linker.training.estimate_u_using_random_sampling(max_pairs=1_000_000, seed=1)
linker.training.estimate_parameters_using_expectation_maximisation(block_on("date_of_birth"))
linker.training.estimate_parameters_using_expectation_maximisation(block_on("postcode"))
predicted = linker.inference.predict(threshold_match_probability=0.5)
found, right = connection.execute(
    f"select count(*), count(*) filter (where person_l = person_r) from {predicted.physical_name}"
).fetchone()
print(json.dumps({"found": found, "right": right}))
