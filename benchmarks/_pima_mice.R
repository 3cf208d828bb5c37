# What R's mice makes of the example of benchmarks/pima.py: Rscript benchmarks/_pima_mice.R pima.csv > benchmarks/results/pima_mice.csv
# Of each of five runs (seed) with 200 imputations: pooled estimates, standard errors, degrees of freedom, missing information
# and the variance b between imputations; tests D1 and D3 of triceps and pressure have F as estimate and df2 as df.
suppressMessages(library(mice))
pima <- read.csv(commandArgs(TRUE)[1])
pima$diabetes <- factor(pima$diabetes)
logged <- transform(pima, insulin = log(insulin))
normal <- make.method(logged)
normal[normal == "pmm"] <- "norm"
m <- 200
model <- diabetes ~ glucose + mass + triceps + pressure + age + pedigree + pregnant
short <- diabetes ~ glucose + mass + age + pedigree + pregnant
fitted <- function(formula, tables) as.mira(lapply(tables, function(data) glm(formula, family = binomial, data = data)))
lines <- function(what, run, fits) {
  found <- pool(fits)
  line <- summary(found)
  data.frame(what, run, term = line$term, estimate = line$estimate, std.error = line$std.error, df = line$df,
             fmi = found$pooled$fmi, b = found$pooled$b)
}
test <- function(what, run, name, value, df, riv) {
  data.frame(what, run, term = name, estimate = value, std.error = NA, df = df, fmi = riv, b = NA)
}
wald <- function(fits, terms) {  # D1 of Li, Raghunathan and Rubin (1991): statistic and relative increase in variance
  estimates <- sapply(getfit(fits), function(fit) coef(fit)[terms])
  within <- solve(Reduce(`+`, lapply(getfit(fits), function(fit) vcov(fit)[terms, terms])) / m)
  riv <- (1 + 1 / m) * sum(diag(cov(t(estimates)) %*% within)) / length(terms)
  mean <- rowMeans(estimates)
  c(drop(mean %*% within %*% mean) / (length(terms) * (1 + riv)), riv)
}
everything <- NULL
for (seed in 1:5) for (how in c("norm", "pmm")) {
  made <- if (how == "norm") mice(logged, m = m, method = normal, seed = seed, printFlag = FALSE)
          else mice(pima, m = m, seed = seed, printFlag = FALSE)
  tables <- complete(made, "all")
  if (how == "pmm") tables <- lapply(tables, transform, insulin = log(insulin))
  full <- fitted(model, tables); reduced <- fitted(short, tables)
  ratio <- D3(full, reduced)$result
  everything <- rbind(everything,
    lines(paste(how, "without insulin"), seed, full),
    lines(paste(how, "with insulin"), seed, fitted(update(model, . ~ . + insulin), tables)),
    test(paste(how, "without insulin"), seed, "D1", wald(full, c("triceps", "pressure"))[1], NA, wald(full, c("triceps", "pressure"))[2]),
    test(paste(how, "without insulin"), seed, "D3", ratio[1], ratio[3], ratio[5]))
}
write.csv(format(everything, digits = 7), row.names = FALSE, quote = FALSE)
