/* link: postern_ftp_lib */
/* The client's stream: what is not ours to answer goes on byte for byte and in order, nothing that
 * is ours goes on, and no split changes either. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/command.h"

#define SIZE_MAX_INPUT 8000

struct outcome {
	uint8_t kinds[SIZE_MAX_INPUT];
	size_t ends[SIZE_MAX_INPUT];
	size_t count;
	uint8_t passed[SIZE_MAX_INPUT];
	size_t size;
};

static bool is_ours(enum command_kind kind)
{
	return kind == COMMAND_PORT || kind == COMMAND_EPRT || kind == COMMAND_AUTH;
}

static void run(const uint8_t *data, size_t size, size_t step, struct outcome *outcome)
{
	struct command_parser parser;
	size_t from = 0;

	outcome->count = outcome->size = 0;
	command_init(&parser);
	for (size_t to = step < size ? step : size;; to = size - to < step ? size : to + step) {
		while (from < to) {
			struct command_step taken = command_next(&parser, data + from, to - from);

			if (taken.size == 0) {
				if (to - from >= COMMAND_PREFIX_CAP)
					abort(); /* it waits for too much */
				break;
			}
			if (taken.size > to - from)
				abort();
			if (!is_ours(taken.kind)) {
				memcpy(outcome->passed + outcome->size, data + from, taken.size);
				outcome->size += taken.size;
			}
			from += taken.size;
			if (taken.ends) {
				if (data[from - 1] != '\n')
					abort();
				outcome->kinds[outcome->count] = (uint8_t)taken.kind;
				outcome->ends[outcome->count++] = from;
			}
		}
		if (to == size)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome whole, split;
	size_t lines = 0;

	if (size < 1 || size > SIZE_MAX_INPUT)
		return 0;
	run(data, size, size, &whole);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	if (lines != whole.count)
		abort();
	for (size_t step = 1; step <= 64 && step < size; step += 1 + data[0] % 7) {
		run(data, size, step, &split);
		if (whole.count != split.count || whole.size != split.size ||
			memcmp(whole.kinds, split.kinds, whole.count) != 0 ||
			memcmp(whole.ends, split.ends, whole.count * sizeof(*whole.ends)) != 0 ||
			memcmp(whole.passed, split.passed, whole.size) != 0)
			abort();
	}
	return 0;
}
