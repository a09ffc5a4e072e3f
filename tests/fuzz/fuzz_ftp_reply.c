/* link: postern_ftp_lib */
/* The server's stream: what comes out is what went in, but for replies that were replaced, and no
 * split of it changes a decision. The first byte of the input says how to split and what to ask;
 * the server sits at 10.77.2.2:21. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/dialogue.h"
#include "common/buffer.h"

#define SIZE_MAX_INPUT 8000

struct outcome {
	uint8_t bytes[3 * SIZE_MAX_INPUT];
	size_t size;
	size_t removed, added;
	uint64_t decisions; /* hash of what was asked and refused, in order */
	unsigned asked, refused;
	bool cut; /* the stream ended inside an overlong reply, which is dropped */
};

static void decide(struct outcome *outcome, const struct dialogue *dialogue, size_t size, bool ask)
{
	uint64_t word = (uint64_t)dialogue->held_reply.door.port << 32 | (uint64_t)size << 8 |
		(unsigned)dialogue->held_reply.problem;

	outcome->decisions = (outcome->decisions ^ word) * 0x9e3779b97f4a7c15u;
	outcome->asked += ask;
	outcome->refused += !ask;
}

static void drain(struct outcome *outcome, struct buffer *buffer)
{
	if (outcome->size + buffer->length > sizeof(outcome->bytes))
		abort();
	if (buffer->length)
		memcpy(outcome->bytes + outcome->size, buffer_bytes(buffer), buffer->length);
	outcome->size += buffer->length;
	buffer_consume(buffer, buffer->length);
}

static void run(const uint8_t *data, size_t size, size_t step, unsigned questions, bool deny,
	struct outcome *outcome)
{
	static const char refusal[] = "425 no\r\n";
	struct dialogue_counts counts = {0};
	struct buffer commands, to_server, in, out;
	struct dialogue_options options = {.refuse_auth = true, .counts = &counts};
	struct dialogue dialogue;

	memset(outcome, 0, sizeof(*outcome));
	endpoint_parse("10.77.2.2:21", true, &options.server);
	endpoint_parse("10.77.1.2:5001", true, &options.client);
	dialogue_init(&dialogue, &options);
	buffer_init(&commands, 16384);
	buffer_init(&to_server, 16384);
	buffer_init(&in, 16384);
	buffer_init(&out, 16384);
	for (unsigned i = 0; i < questions; i++)
		buffer_append(&commands, i % 2 ? "PASV\r\n" : "EPSV\r\n", 6);
	dialogue_commands(&dialogue, &commands, &to_server, false);
	for (size_t at = 0; at <= size; at += step) {
		size_t piece = size - at < step ? size - at : step;
		bool last = at + step > size;
		enum dialogue_result result;

		buffer_append(&in, data + at, piece);
		for (;;) {
			size_t before = in.length;

			result = dialogue_replies(&dialogue, &in, &out, last);
			if (result == DIALOGUE_TRANSFERRED)
				continue;
			if (result == DIALOGUE_IDLE) {
				drain(outcome, &out);
				if (in.length == before)
					break;
				continue;
			}
			decide(outcome, &dialogue, dialogue.held_reply.size,
				result == DIALOGUE_ASK);
			if (result == DIALOGUE_ASK && !deny) {
				dialogue_release(&dialogue, &in, &out);
			} else {
				outcome->removed += dialogue.held_reply.size;
				outcome->added += sizeof(refusal) - 1;
				dialogue_refuse(&dialogue, &in, &out, refusal);
			}
			drain(outcome, &out);
		}
	}
	outcome->cut = dialogue.discarding;
	if (in.length > 0)
		abort(); /* something was kept */
	if (outcome->asked + outcome->refused > questions)
		abort(); /* more doors than questions */
	buffer_fini(&commands);
	buffer_fini(&to_server);
	buffer_fini(&in);
	buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome whole, split;
	unsigned questions;
	bool deny;

	if (size < 1 || size > SIZE_MAX_INPUT)
		return 0;
	questions = data[0] & 7;
	deny = data[0] & 8;
	run(data + 1, size - 1, size, questions, deny, &whole);
	for (size_t step = 1; step <= 64 && step < size; step += 1 + (data[0] >> 4)) {
		run(data + 1, size - 1, step, questions, deny, &split);
		if (whole.size != split.size || whole.decisions != split.decisions ||
			whole.cut != split.cut || memcmp(whole.bytes, split.bytes, whole.size) != 0)
			abort();
	}
	if (whole.refused == 0 && !whole.cut && !(deny && whole.asked) &&
		(whole.size != size - 1 || memcmp(whole.bytes, data + 1, size - 1) != 0))
		abort();
	return 0;
}
