extern int placeholder_cli;
int placeholder_cli;
