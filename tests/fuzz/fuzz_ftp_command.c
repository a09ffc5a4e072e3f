/* link: postern_ftp_lib */
/* A client's line: never read past its end, always one of the known. */
#include <stdint.h>
#include <stdlib.h>

#include "client/inspectors/ftp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum command command = command_of((const char *)data, size);
	if (command > COMMAND_AUTH)
		abort();
	return 0;
}
