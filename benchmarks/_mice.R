# Fills many tables in one process. Arguments: folder, method, m, iterations.
# In: columns.csv (name, kind, levels), sizes.csv (rows, seed), tables.bin (doubles, one column after the other, NaN unknown).
# Out: out.bin: for each table 1 and the CPU seconds and m filled tables, or 0 where it failed; errors.txt says why.
suppressMessages(library(mice))
argument <- commandArgs(TRUE)
folder <- argument[1]; method <- argument[2]; m <- as.integer(argument[3]); iterations <- as.integer(argument[4])
columns <- read.csv(file.path(folder, "columns.csv"), stringsAsFactors = FALSE)
sizes <- read.csv(file.path(folder, "sizes.csv"))
source <- file(file.path(folder, "tables.bin"), "rb"); out <- file(file.path(folder, "out.bin"), "wb")
width <- nrow(columns)
typed <- function(x, kind, levels) {
  if (kind == "number") return(x)
  factor(x, levels = seq_len(levels) - 1, ordered = kind == "ordinal")
}
number <- function(x) if (is.factor(x)) as.integer(x) - 1 else as.double(x)
methods <- function(data) {
  if (method == "default") return(NULL)
  chosen <- make.method(data)
  one <- if (method %in% c("norm", "pmm")) columns$kind == "number" else TRUE
  chosen[chosen != "" & one] <- method
  chosen
}
fill <- function(data, seed) {
  if (method == "amelia") {
    set.seed(seed)
    return(Amelia::amelia(data, m = m, p2s = 0, empri = 0.01 * nrow(data))$imputations)
  }
  options <- list(data, m = m, maxit = iterations, seed = seed, printFlag = FALSE)
  if (!method %in% c("cart", "rf")) options$eps <- 1e-4
  options$method <- methods(data)
  complete(do.call(mice, options), "all")
}
for (at in seq_len(nrow(sizes))) {
  rows <- sizes$rows[at]
  x <- matrix(readBin(source, "double", rows * width), rows, width); x[is.nan(x)] <- NA
  data <- as.data.frame(mapply(typed, as.data.frame(x), columns$kind, columns$levels, SIMPLIFY = FALSE))
  names(data) <- columns$name
  before <- sum(proc.time()[1:2])
  found <- tryCatch(suppressWarnings(fill(data, sizes$seed[at])), error = function(e) conditionMessage(e))
  seconds <- sum(proc.time()[1:2]) - before
  if (is.character(found)) {
    writeBin(c(0, seconds), out)
    cat(at, gsub("\n", " ", found), "\n", file = file.path(folder, "errors.txt"), append = TRUE)
  } else {
    writeBin(c(1, seconds), out)
    for (table in found) for (column in table) writeBin(as.double(number(column)), out)
  }
}
close(out)
