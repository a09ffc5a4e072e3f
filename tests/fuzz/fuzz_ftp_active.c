/* link: postern_ftp_lib */
/* A client's stream with PORT and EPRT in it: no split changes what is asked or what reaches the
 * server; what is asked is the client's own address and a port from 1024 on; and each PORT and EPRT
 * that reaches the server is written as we write them and reads as the door that was opened. The
 * first byte says how to split, whether the client uses IPv6, whether doors are denied, and whether
 * addresses are translated. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/active.h"
#include "client/inspectors/ftp/dialogue.h"
#include "common/buffer.h"

#define SIZE_MAX_INPUT 4000
#define DOORS_MAX 1024

struct outcome {
	uint8_t bytes[DOORS_MAX * ACTIVE_LINE_SIZE];
	size_t size;
	uint64_t decisions; /* hash of what was asked, refused and aborted, in order */
	struct endpoint doors[DOORS_MAX]; /* as the server is told */
	unsigned count;
};

static void check(bool good)
{
	if (!good)
		abort();
}

static void drain(struct buffer *buffer, struct outcome *outcome)
{
	check(outcome->size + buffer->length <= sizeof(outcome->bytes));
	if (buffer->length)
		memcpy(outcome->bytes + outcome->size, buffer_bytes(buffer), buffer->length);
	outcome->size += buffer->length;
	buffer_consume(buffer, buffer->length);
}

static void decide(struct dialogue *dialogue, enum dialogue_result result, bool deny,
	bool translate, struct buffer *to_server, struct outcome *outcome)
{
	const struct dialogue_held *held = &dialogue->held_command;
	struct endpoint as = held->door;
	uint64_t word = (uint64_t)result << 32 | (uint64_t)held->problem << 16 | held->door.port;

	outcome->decisions = (outcome->decisions ^ word) * 0x9e3779b97f4a7c15u;
	if (result == DIALOGUE_ABORTED)
		return;
	check(held->active);
	if (result == DIALOGUE_ASK)
		check(addr_equal(&held->door.addr, &dialogue->options.client.addr) &&
			held->door.port >= DIALOGUE_LOWEST_PORT);
	if (result == DIALOGUE_REFUSE || deny) {
		dialogue_refuse_command(dialogue, "425 no\r\n");
		return;
	}
	if (translate) {
		as.addr.bytes[3] ^= 0x55;
		as.port ^= 1;
	}
	check(dialogue_release_command(dialogue, to_server, &as));
	check(outcome->count < DOORS_MAX);
	outcome->doors[outcome->count++] = as;
}

static void run(const uint8_t *data, size_t size, size_t step, uint8_t how, struct outcome *outcome)
{
	struct dialogue_counts counts = {0};
	struct dialogue_options options = {.refuse_auth = true, .counts = &counts};
	struct buffer in, to_server, none, to_client;
	struct dialogue dialogue;

	memset(outcome, 0, sizeof(*outcome));
	endpoint_parse(how & 1 ? "[fd77:2::2]:21" : "10.77.2.2:21", true, &options.server);
	endpoint_parse(how & 1 ? "[fd77:1::2]:5001" : "10.77.1.2:5001", true, &options.client);
	dialogue_init(&dialogue, &options);
	buffer_init(&in, 16384);
	buffer_init(&to_server, 16384);
	buffer_init(&none, 16384);
	buffer_init(&to_client, 16384);
	for (size_t at = 0; at <= size; at += step) {
		size_t piece = size - at < step ? size - at : step, before;
		bool last = at + step > size;

		buffer_append(&in, data + at, piece);
		do {
			enum dialogue_result result =
				dialogue_commands(&dialogue, &in, &to_server, last);

			before = in.length;
			if (result != DIALOGUE_IDLE) {
				decide(&dialogue, result, how & 2, how & 4, &to_server, outcome);
				before++; /* there may be more */
			}
			drain(&to_server, outcome);
			/* What is owed comes out, so that there is always room for more. */
			dialogue_stop_waiting(&dialogue);
			dialogue_replies(&dialogue, &none, &to_client, false);
			if (to_client.length > 0)
				before++;
			buffer_consume(&to_client, to_client.length);
		} while (before != in.length);
	}
	buffer_fini(&in);
	buffer_fini(&to_server);
	buffer_fini(&none);
	buffer_fini(&to_client);
}

/* Reads what the server got, as a server would: line by line. */
static void read_back(const struct outcome *outcome)
{
	const uint8_t *p = outcome->bytes, *end = p + outcome->size, *stop;
	struct endpoint door;
	unsigned found = 0;

	for (; (stop = memchr(p, '\n', (size_t)(end - p))); p = stop + 1) {
		size_t size = (size_t)(stop - p);
		bool is_port = size > 6 && memcmp(p, "PORT ", 5) == 0;
		bool is_eprt = size > 6 && memcmp(p, "EPRT ", 5) == 0;

		if (!is_port && !is_eprt)
			continue;
		check(p[size - 1] == '\r' && found < outcome->count);
		check((is_port ? active_parse_port : active_parse_eprt)(p + 5, size - 6, &door) ==
			ACTIVE_FINE);
		check(endpoint_equal(&door, &outcome->doors[found++]));
	}
	check(found == outcome->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome whole, split;

	if (size < 1 || size > SIZE_MAX_INPUT)
		return 0;
	run(data + 1, size - 1, size, data[0], &whole);
	read_back(&whole);
	for (size_t step = 1; step <= 64 && step < size; step += 1 + (data[0] >> 4)) {
		run(data + 1, size - 1, step, data[0], &split);
		check(whole.size == split.size && whole.decisions == split.decisions &&
			whole.count == split.count &&
			memcmp(whole.bytes, split.bytes, whole.size) == 0);
	}
	return 0;
}
