/* Runs a fuzz target over a folder of inputs (and over the empty input) without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file) {
		perror(path);
		return 1;
	}
	uint8_t *data = malloc(1 << 20);
	size_t size = data ? fread(data, 1, 1 << 20, file) : 0;
	fclose(file);
	/* An exact allocation, so that AddressSanitizer sees a read past the end. */
	uint8_t *exact = malloc(size ? size : 1);
	if (!data || !exact)
		abort();
	for (size_t i = 0; i < size; i++)
		exact[i] = data[i];
	free(data);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
		return 2;
	}
	DIR *dir = opendir(argv[1]);
	if (!dir) {
		perror(argv[1]);
		return 1;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	int failed = 0, count = 0;
	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		char path[4096];
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
		failed |= replay_file(path);
		count++;
	}
	closedir(dir);
	printf("%d inputs replayed\n", count);
	if (count == 0) {
		fprintf(stderr, "%s: the corpus is empty\n", argv[1]);
		return 1;
	}
	return failed;
}
